# The smallest WSGI app. hello.ts and hello.ru are the same.
def application(environ, start_response):
    headers = [("Content-Type", "text/plain;charset=UTF-8"), ("Content-Length", "14")]
    start_response("200 OK", headers)
    return [b"Hello, World!\n"]
