"use strict";
// Everything that a message says reaches the page by textContent: none of it is ever markup here.
const at = (id) => document.getElementById(id);
const make = (tag, text, parent) => {
  const element = document.createElement(tag);
  element.textContent = text;
  parent.append(element);
  return element;
};
const state = { taken: -1, open: null, tab: null };

async function ask(path) {
  const answer = await fetch(path);
  if (!answer.ok) throw new Error(answer.status);
  return answer.json();
}

async function list() {
  const answer = await ask("/api/messages?q=" + encodeURIComponent(at("search").value));
  state.taken = answer.taken;
  at("count").textContent = `${answer.messages.length} shown, ${answer.taken} arrived`;
  at("list").replaceChildren();
  for (const message of answer.messages) {
    const button = make("button", "", make("li", "", at("list")));
    make("strong", message.subject || "(no subject)", button);
    make("span", `${message.from} → ${message.to.join(", ")}`, button);
    make("span", `${message.arrived.replace("T", " ")} · ${message.size} octets`, button);
    button.setAttribute("aria-current", String(state.open === message.number));
    button.addEventListener("click", () => { location.hash = `#${message.number}`; });
  }
}

function rows(pairs) {
  const table = document.createElement("table");
  for (const [name, value] of pairs) {
    const row = make("tr", "", table);
    make("th", name, row);
    make("td", value, row);
  }
  at("view").append(table);
}

const written = (parameters) =>
  Object.entries(parameters).map(([key, value]) => (value === null ? key : `${key}=${value}`)).join(" ");

const views = {
  HTML: (message) => {
    const frame = document.createElement("iframe");
    frame.setAttribute("sandbox", "");
    frame.setAttribute("referrerpolicy", "no-referrer");
    frame.title = "The message's HTML";
    frame.src = `/messages/${message.number}/html`;
    at("view").append(frame);
  },
  Text: (message) => make("pre", message.text, at("view")),
  Headers: (message) => rows(message.headers),
  Envelope: (message) => rows([
    ["MAIL FROM", `<${message.envelope.sender}> ${written(message.envelope.parameters)}`],
    ...message.envelope.recipients.map((each) => ["RCPT TO", `<${each.address}> ${written(each.parameters)}`]),
    ["By", `${message.envelope.via}, ${message.envelope.tls ? "TLS" : "clear text"}`],
    ["Logged in as", message.envelope.user ?? "nobody"],
  ]),
  Files: (message) => message.files.forEach((file, index) => {
    const link = make("a", `${file.name} (${file.kind}, ${file.size} octets)`, make("p", "", at("view")));
    link.href = `/messages/${message.number}/files/${index}`;
  }),
  Raw: async (message) => {
    const link = make("a", "Save as .eml", make("p", "", at("view")));
    link.href = `/messages/${message.number}/eml`;
    const answer = await fetch(`/messages/${message.number}/raw`);
    make("pre", await answer.text(), at("view"));
  },
};

function show(message) {
  const names = Object.keys(views).filter((name) =>
    (name !== "HTML" || message.html) && (name !== "Files" || message.files.length));
  const tab = names.includes(state.tab) ? state.tab : names[0];
  at("letter").hidden = false;
  at("subject").textContent = message.subject || "(no subject)";
  at("tabs").replaceChildren();
  for (const name of names) {
    const button = make("button", name, at("tabs"));
    button.setAttribute("aria-pressed", String(name === tab));
    button.addEventListener("click", () => { state.tab = name; location.hash = `#${message.number}/${name}`; });
  }
  at("view").replaceChildren();
  views[tab](message);
}

async function open() {
  const [number, tab] = location.hash.slice(1).split("/");
  if (!/^[0-9]+$/.test(number)) return;
  state.open = Number(number);
  state.tab = tab || state.tab;
  try {
    show(await ask(`/messages/${state.open}`));
  } catch {
    at("letter").hidden = true;
  }
  await list();
}

async function follow() {
  for (;;) {
    try {
      const news = await ask(`/api/news?taken=${state.taken}`);
      if (news.taken !== state.taken) await list();
    } catch {
      at("count").textContent = "the sink does not answer";
      await new Promise((done) => setTimeout(done, 2000));
    }
  }
}

at("search").addEventListener("input", list);
addEventListener("hashchange", open);
at("search").value = new URLSearchParams(location.search).get("q") ?? "";
list().then(open).then(follow);
