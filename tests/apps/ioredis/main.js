const express = require('express')
// Import ioredis.
const Redis = require('ioredis')

// Create a Redis instance.
const redis = new Redis(process.env.REDIS_URL)

const app = express()

app.get('/set', async (req, res) => {
  res.send(await redis.set('mykey', 'value')) // Returns a promise which resolves to "OK" when the command succeeds.
})

app.get('/get', async (req, res) => {
  res.send(await redis.get('mykey'))
})

app.listen(3000)
