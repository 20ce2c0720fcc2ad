import { Hono } from 'hono'
import { serveStatic } from 'hono/deno'

const app = new Hono()

const View = () => {
  return (
    <html>
      <body>
        <h1>Hello Hono!</h1>
      </body>
    </html>
  )
}

app.get('/', (c) => c.text('Hello Deno!'))
app.get('/page', (c) => {
  return c.html(<View />)
})
app.use('/static/*', serveStatic({ root: './' }))

Deno.serve(app.fetch)
