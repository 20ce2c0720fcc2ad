import express from 'express'
import sharp from 'sharp'

const semiTransparentRedPng = await sharp({
  create: {
    width: 48,
    height: 48,
    channels: 4,
    background: { r: 255, g: 0, b: 0, alpha: 0.5 }
  }
})
  .png()
  .toBuffer()

const app = express()

app.get('/', async (req, res) => {
  const data = await sharp(semiTransparentRedPng)
    .rotate()
    .resize(200)
    .jpeg({ mozjpeg: true })
    .toBuffer()
  res.type('jpeg').send(data)
})

app.listen(3000)
