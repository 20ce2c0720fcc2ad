import * as jose from 'jose'

const secret = new TextEncoder().encode(
  'cc7e0d44fd473002f1c42167459001140ec6389b7353f8088f4d9a95f2f596f2',
)
const alg = 'HS256'

Deno.serve(async () => {
  const jwt = await new jose.SignJWT({ 'urn:example:claim': true })
    .setProtectedHeader({ alg })
    .setIssuedAt(1700000000)
    .setIssuer('urn:example:issuer')
    .setAudience('urn:example:audience')
    .sign(secret)
  const { payload, protectedHeader } = await jose.jwtVerify(jwt, secret, {
    issuer: 'urn:example:issuer',
    audience: 'urn:example:audience',
  })
  return Response.json({ jwt, payload, protectedHeader })
})
