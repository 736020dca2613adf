'use strict'
// smtp-server on loopback: node smtp-server.js PORT MAIL, where MAIL is a folder for Maildirs. SMTP on PORT,
// and at most LIMIT recipients a message.

const fs = require('node:fs')
const path = require('node:path')
const { SMTPServer } = require('smtp-server')

const [, , port, mail, limit] = process.argv
let number = 0

function refusal(code, text) {
  return Object.assign(new Error(text), { responseCode: code })
}

function keep(session, content) {
  for (const { address } of session.envelope.rcptTo) {
    const folder = path.join(mail, `${address.split(/[+@]/)[0]}@mail.test`, 'new')
    fs.mkdirSync(folder, { recursive: true })
    fs.writeFileSync(path.join(folder, String(++number)), content.toString('latin1').replaceAll('\r\n', '\n'), 'latin1')
  }
}

new SMTPServer({
  authOptional: true,
  disableReverseLookup: true,
  disabledCommands: ['STARTTLS'],
  maxRecipients: Number(limit),
  size: 8000000,
  onMailFrom({ address }, session, done) {
    done(address === 'refused@elsewhere.test' ? refusal(554, '5.7.1 refused') : null)
  },
  onRcptTo({ address }, session, done) {
    const [user] = address.split(/[+@]/)
    if (user === 'later') return done(refusal(450, '4.2.0 come back later'))
    done(['alice', 'bob'].includes(user) ? null : refusal(550, '5.1.1 no such user'))
  },
  onData(stream, session, done) {
    const pieces = []
    stream.on('data', (piece) => pieces.push(piece))
    stream.on('end', () => {
      const content = Buffer.concat(pieces)
      if (content.includes('refuse this content')) return done(refusal(550, '5.7.1 refused'))
      keep(session, content)
      done(null, 'kept')
    })
  },
}).listen(Number(port), '127.0.0.1')
