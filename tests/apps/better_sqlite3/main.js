const express = require('express')
const db = require('better-sqlite3')('foobar.db')
db.pragma('journal_mode = WAL')

const app = express()

app.get('/', (req, res) => {
  const row = db.prepare('SELECT * FROM users WHERE id = ?').get(1)
  res.send(row)
})

app.listen(3000)
