import { Elysia } from 'elysia'

const app = new Elysia()
  .get('/', 'Hello Elysia')
  .get('/user/:id', ({ params: { id }}) => id)
  .post('/form', ({ body }) => body)

Deno.serve({ port: 3000 }, app.fetch)
