'use strict'
// A plugin for Haraka: takes mail for alice and bob, refuses what the other servers of the tests refuse, and
// writes one file a recipient into Maildirs.

const fs = require('node:fs')
const path = require('node:path')

let number = 0

exports.hook_mail = function (next, connection, [sender]) {
  if (`${sender.user}@${sender.host}` === 'refused@elsewhere.test') return next(DENY, '5.7.1 refused')
  next(OK)
}

exports.hook_rcpt = function (next, connection, [recipient]) {
  const user = recipient.user.split('+')[0]
  if (user === 'later') return next(DENYSOFT, '4.2.0 come back later')
  next(['alice', 'bob'].includes(user) && recipient.host === 'mail.test' ? OK : DENY, 'no such user')
}

exports.hook_data = function (next, connection) {
  connection.transaction.parse_body = false
  next()
}

exports.hook_data_post = function (next, connection) {
  const refused = connection.transaction.header.get('Subject').includes('refuse this content')
  if (refused) return next(DENY, '5.7.1 refused')
  next()
}

exports.hook_queue = function (next, connection) {
  const transaction = connection.transaction
  transaction.message_stream.get_data((content) => {
    for (const recipient of transaction.rcpt_to) {
      const folder = path.join(process.env.MAIL, `${recipient.user.split('+')[0]}@mail.test`, 'new')
      fs.mkdirSync(folder, { recursive: true })
      // Without its own trace fields, and with LF line ends, as a mailbox has them.
      fs.writeFileSync(path.join(folder, String(++number)), content.toString('latin1').replaceAll('\r\n', '\n'), 'latin1')
    }
    next(OK)
  })
}
