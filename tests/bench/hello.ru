# The smallest Rack app. hello.ts and hello.py are the same.
headers = { "Content-Type" => "text/plain;charset=UTF-8", "Content-Length" => "14" }
run ->(_environment) { [200, headers.dup, ["Hello, World!\n"]] }
