import express from 'express'
import { Client } from 'pg'

const client = new Client()
await client.connect()

const app = express()

app.get('/', async (req, res) => {
  const result = await client.query('SELECT $1::text as message', ['Hello world!'])
  res.send(result.rows[0].message) // Hello world!
})

app.listen(3000)
