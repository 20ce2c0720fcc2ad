/** The bytes that are sent, and what to wait for before the next ones. */
export type Step = string | RegExp | typeof HALF_CLOSE;

/** The client sends no more data, but continues to read. */
export const HALF_CLOSE = Symbol("half-close");

const get = (path: string, ...lines: string[]) => head(`GET ${path} HTTP/1.1`, ...lines);
const last = (path: string, ...lines: string[]) => get(path, "Connection: close", ...lines);
const post = (path: string, ...lines: string[]) => head(`POST ${path} HTTP/1.1`, ...lines);
const head = (requestLine: string, ...lines: string[]) =>
  [requestLine, "Host: example.org", ...lines, "", ""].join("\r\n");
const raw = (...lines: string[]) => [...lines, "", ""].join("\r\n");

const CHUNKED = "Transfer-Encoding: chunked";
const CLOSE = "Connection: close";
const END = last("/hello");

/** Reads a request whose body arrives after its header. */
const looking = (way: string, body: string, ...fields: string[]): readonly Step[] => [
  post("/object", `X-Way: ${way}`, CLOSE, "Expect: 100-continue", ...fields),
  /100 Continue\r\n\r\n/,
  body,
];
const PIECES = "5\r\nhello\r\n0\r\n\r\n";

/** Raw requests after RFC 9110 and RFC 9112, and some that break them. */
export const REQUESTS: Readonly<Record<string, readonly Step[]>> = {
  // Plain requests
  "a request": [last("/hello")],
  "a request that leaves the connection open": [get("/hello")],
  "two requests in turn": [get("/hello"), /World!\n$/, END],
  "an asynchronous response": [last("/late")],
  "an empty response": [last("/empty")],
  "a handler that throws": [get("/throw"), END],
  "all that the app can see": [last("/see?a=1&b=%20", "X-One: 1", "Accept: */*")],
  "a fragment": [last("/see#fragment")],
  "an encoded path": [last("/see/%2e%2e/%C3%BC/%zz")],
  "dots in the path": [last("/see/../see/./x")],
  "slashes at the start of the path": [last("//see//x")],
  "bytes beyond ASCII in the path": [last("/see/\u00fc")],
  "bytes beyond ASCII in a field": [last("/see", "X-Name: \u00fc")],

  // Pipelining
  "two requests at once": [get("/hello") + END],
  "a slow request before a fast one": [get("/late") + END],
  "ten requests at once": [get("/hello").repeat(9) + END],
  "a body between two requests": [
    post("/echo", "Content-Length: 5") + "hello" + get("/late") + END,
  ],
  "an unread body between two requests": [post("/unread", "Content-Length: 5") + "hello" + END],
  "a request after the last one": [last("/hello") + get("/late")],

  // Methods
  "HEAD": [head("HEAD /hello HTTP/1.1") + END],
  "HEAD of a stream": [head("HEAD /parts HTTP/1.1") + END],
  "OPTIONS of everything": [head("OPTIONS * HTTP/1.1", CLOSE)],
  "OPTIONS of a path": [head("OPTIONS /see HTTP/1.1", CLOSE)],
  "PUT, PATCH and DELETE": [
    head("PUT /see HTTP/1.1", "Content-Length: 1") + "1" +
    head("PATCH /see HTTP/1.1", "Content-Length: 1") + "2" +
    head("DELETE /see HTTP/1.1", CLOSE),
  ],
  "an unknown method": [head("BREW /see HTTP/1.1", CLOSE)],
  "a method in small letters": [head("get /see HTTP/1.1", CLOSE)],
  "TRACE": [head("TRACE /see HTTP/1.1", CLOSE)],
  "CONNECT": [raw("CONNECT example.org:443 HTTP/1.1", "Host: example.org:443")],
  "GET with a body": [last("/see", "Content-Length: 2") + "hi"],

  // Bodies of requests
  "a body of known length": [post("/see", CLOSE, "Content-Length: 5") + "hello"],
  "a body in two pieces": [post("/see", CLOSE, "Content-Length: 10") + "hello", "world"],
  "an empty body": [post("/see", CLOSE, "Content-Length: 0")],
  "a body in chunks": [
    post("/echo", CLOSE, CHUNKED) + "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
  ],
  "chunks in pieces": [
    post("/see", CLOSE, CHUNKED) + "5\r\nhel",
    "lo\r\n1",
    "0\r\n0123456789abcdef\r\n0\r\n",
    "\r\n",
  ],
  "chunks with extensions": [post("/see", CLOSE, CHUNKED) + "5;a=b;c\r\nhello\r\n0;d\r\n\r\n"],
  "chunk sizes with leading zeros": [post("/see", CLOSE, CHUNKED) + "0005\r\nhello\r\n00\r\n\r\n"],
  "trailers": [
    post("/see", CLOSE, CHUNKED, "Trailer: X-Sum") + "5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
  ],
  "an echo with a request behind it": [post("/echo", CHUNKED) + "1\r\na\r\n0\r\n\r\n" + END],
  "a body that never comes whole": [post("/see", "Content-Length: 10") + "hello", HALF_CLOSE],
  "chunks that never end": [post("/see", CHUNKED) + "5\r\nhello\r\n", HALF_CLOSE],

  "an unread body that comes after the answer": [
    post("/unread", CHUNKED),
    /not read\n$/,
    PIECES,
  ],

  // What an app sees of a request
  ...Object.fromEntries(
    [
      "object",
      "headers",
      "clone",
      "copy",
      "twice",
      "at once",
      "locked by a reader",
      "read in part",
      "released",
      "canceled",
      "teed",
      "not JSON",
      "not a form",
    ].flatMap((way) => [
      [`a body in chunks, ${way}`, looking(way, PIECES, CHUNKED)],
      [`a body of known length, ${way}`, looking(way, "hello", "Content-Length: 5")],
      [`a body that has come, ${way}`, [
        post("/object", `X-Way: ${way}`, CLOSE, CHUNKED) + PIECES,
      ]],
      [`a body that comes while the app waits, ${way}`, looking(way, PIECES, "X-Wait: 1", CHUNKED)],
    ]),
  ),

  // Bodies of responses
  "a stream": [last("/parts")],
  "a stream with a request behind it": [get("/parts") + END],
  "a stream of known length": [last("/sized")],
  "204 and 304 have no body": [get("/204") + get("/304") + END],
  "several cookies": [last("/cookies")],
  "a part of the whole": [last("/range", "Range: bytes=2-4")],
  "compression": [last("/gzip", "Accept-Encoding: gzip")],
  "no compression": [last("/gzip", "Accept-Encoding: identity")],

  // Expectations
  "100-continue": [
    post("/echo", CLOSE, "Expect: 100-continue", "Content-Length: 5"),
    /100 Continue\r\n\r\n/,
    "hello",
  ],
  "100-continue for a body that nobody reads": [
    post("/unread", CLOSE, "Expect: 100-continue", "Content-Length: 5"),
  ],
  "an unknown expectation": [last("/hello", "Expect: the-unexpected")],

  // Versions and connections
  "HTTP/1.0": [raw("GET /see HTTP/1.0")],
  "HTTP/1.0 with keep-alive": [
    raw("GET /hello HTTP/1.0", "Connection: keep-alive"),
    /World!\n$/,
    raw("GET /see HTTP/1.0", "Host: example.org"),
  ],
  "a stream over HTTP/1.0": [raw("GET /parts HTTP/1.0")],
  "HTTP/1.2": [head("GET /hello HTTP/1.2", CLOSE)],
  "HTTP/2.0 in a request line": [head("GET /hello HTTP/2.0")],
  "HTTP/0.9": ["GET /hello\r\n"],
  "no version": [head("GET /hello")],
  "the server closes": [get("/close")],
  "Connection: Close in another case": [get("/hello", "cOnNeCtIoN: ClOsE")],
  "Connection with several words": [get("/hello", "Connection: foo, close")],
  "half-close after the request": [get("/hello"), HALF_CLOSE],
  "half-close after a slow request": [get("/late"), HALF_CLOSE],
  "half-close without a request": [HALF_CLOSE],
  "half-close within the header": ["GET /hello HTTP/1.1\r\nHost:", HALF_CLOSE],
  "an upgrade to something unknown": [last("/hello", "Upgrade: something")],
  "h2c, which is not spoken by upgrade": [
    get(
      "/hello",
      "Connection: Upgrade, HTTP2-Settings",
      "Upgrade: h2c",
      "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA",
    ) + END,
  ],
  "a WebSocket": [
    get(
      "/upgrade",
      "Connection: Upgrade",
      "Upgrade: websocket",
      "Sec-WebSocket-Version: 13",
      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ),
    /\r\n\r\n/,
    "\x81\x82\x00\x00\x00\x00hi", // a text frame, masked with zeros
    /echo hi/,
    "\x88\x82\x00\x00\x00\x00\x03\xe8", // a close frame: 1000
  ],
  "a WebSocket without a key": [
    last("/upgrade", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
  ],

  // Hosts and targets
  "no Host": [raw("GET /see HTTP/1.1", CLOSE)],
  ...Object.fromEntries(
    ["object", "clone", "copy"].flatMap((way) => [
      [`no Host, ${way}`, [raw("GET /object HTTP/1.1", `X-Way: ${way}`, CLOSE)]],
      [`no Host and a body, ${way}`, [
        raw("POST /object HTTP/1.1", `X-Way: ${way}`, CLOSE, CHUNKED) + PIECES,
      ]],
    ]),
  ),
  "no Host, and a target that is no URL's": [
    raw('GET /object?"\u00c3\u00bc<>`{}|^\\ HTTP/1.1', "X-Way: object", CLOSE),
  ],
  "a Host that is none, and a body": [
    raw("POST /object HTTP/1.1", "Host: a b", "X-Way: twice", CLOSE, CHUNKED),
    PIECES,
  ],
  "a target that is no URL, and a body": [
    raw("POST s://] HTTP/1.1", "Host: a", "X-Way: twice", CLOSE, CHUNKED),
    PIECES,
  ],
  "an empty Host": [raw("GET /see HTTP/1.1", "Host:", CLOSE)],
  "two Hosts": [last("/see", "Host: other.example")],
  "a Host with a port": [raw("GET /see HTTP/1.1", "Host: example.org:8080", CLOSE)],
  "a Host that is none": [raw("GET /see HTTP/1.1", "Host: a b/c", CLOSE)],
  "absolute form": [head("GET http://other.example/see?x HTTP/1.1", CLOSE)],
  "absolute form without a path": [head("GET http://other.example HTTP/1.1", CLOSE)],
  "a target that is no path": [head("GET see HTTP/1.1", CLOSE)],
  "a target with a space": [head("GET /se e HTTP/1.1", CLOSE)],
  "a long target": [last(`/see?${"x".repeat(8000)}`)],
  "a target that is too long": [last(`/see?${"x".repeat(70_000)}`)],

  // Fields
  "whitespace around a value": [last("/see", "X-Padded: \t  value \t ")],
  "whitespace before the colon": [last("/see", "X-Bad : 1")],
  "whitespace at the start of the first field": [
    raw("GET /see HTTP/1.1", " X-Bad: 1", "Host: example.org", CLOSE),
  ],
  "a folded line": [last("/see", "X-Folded: one", " two")],
  "a field without a colon": [last("/see", "nothing")],
  "a field without a name": [last("/see", ": value")],
  "an empty value": [last("/see", "X-Empty:")],
  "a NUL in a value": [last("/see", "X-Nul: a\0b")],
  "a bare CR in a value": [last("/see", "X-Cr: a\rb")],
  "a field twice": [last("/see", "X-Twice: 1", "X-Twice: 2")],
  "a hundred fields": [last("/hello", ...Array.from({ length: 97 }, (_, i) => `X-${i}: 1`))],
  "more fields than it takes": [
    last("/hello", ...Array.from({ length: 200 }, (_, i) => `X-${i}: 1`)),
  ],
  "a long field": [last("/hello", `X-Long: ${"x".repeat(16_000)}`)],
  "fields that are too long": [
    get("/hello", ...Array.from({ length: 60 }, (_, i) => `X-${i}: ${"x".repeat(8000)}`)),
  ],

  // Lines
  "bare line feeds": ["GET /hello HTTP/1.1\nHost: example.org\nConnection: close\n\n"],
  "empty lines before the request": ["\r\n\r\n" + last("/hello")],
  "empty lines between requests": [get("/hello") + "\r\n" + END],
  "no HTTP at all": ["\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"],
  "a request line with two spaces": [head("GET  /hello HTTP/1.1", CLOSE)],
  "HTTP/2 that nobody has asked for": [
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + "\0\0\0\x04\0\0\0\0\0", // and empty settings
  ],
  "a request byte by byte": [...last("/hello")],

  // Lengths that contradict each other: request smuggling
  "Content-Length and Transfer-Encoding": [
    post("/see", CLOSE, "Content-Length: 5", CHUNKED) + "0\r\n\r\n",
  ],
  "Transfer-Encoding and Content-Length": [
    post("/see", CHUNKED, "Content-Length: 4") + "1\r\na\r\n0\r\n\r\n" + END,
  ],
  "two lengths": [post("/see", CLOSE, "Content-Length: 5", "Content-Length: 6") + "hello!"],
  "the same length twice": [
    post("/see", CLOSE, "Content-Length: 5", "Content-Length: 5") + "hello",
  ],
  "a list of lengths": [post("/see", CLOSE, "Content-Length: 5, 5") + "hello"],
  "a negative length": [post("/see", CLOSE, "Content-Length: -1") + "hello"],
  "a length with a plus": [post("/see", CLOSE, "Content-Length: +5") + "hello"],
  "a length that is none": [post("/see", CLOSE, "Content-Length: five") + "hello"],
  "a length beyond all bounds": [post("/see", CLOSE, "Content-Length: 99999999999999999999")],
  "chunked twice": [post("/see", CLOSE, "Transfer-Encoding: chunked, chunked") + "0\r\n\r\n"],
  "chunked not last": [post("/see", CLOSE, "Transfer-Encoding: chunked, gzip") + "0\r\n\r\n"],
  "an unknown encoding": [post("/see", CLOSE, "Transfer-Encoding: unknown") + "0\r\n\r\n"],
  "chunked over HTTP/1.0": [raw("POST /see HTTP/1.0", CHUNKED) + "1\r\na\r\n0\r\n\r\n"],
  "a chunk size that is none": [post("/see", CHUNKED) + "x\r\nhello\r\n0\r\n\r\n"],
  "a negative chunk size": [post("/see", CHUNKED) + "-5\r\nhello\r\n0\r\n\r\n"],
  "a chunk size beyond all bounds": [post("/see", CHUNKED) + "fffffffffffffffff\r\nhello\r\n"],
  "a chunk size with whitespace": [post("/see", CLOSE, CHUNKED) + "5 \r\nhello\r\n0\r\n\r\n"],
  "a chunk that is longer than it says": [post("/see", CHUNKED) + "3\r\nhello\r\n0\r\n\r\n"],
  "chunks that end with bare line feeds": [post("/see", CHUNKED) + "5\nhello\n0\n\n"],
};
