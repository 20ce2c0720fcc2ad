// ./app.js
import express from 'express'
import mountRoutes from './routes/index.js'

const app = express()
mountRoutes(app)

app.listen(3000)
