-- For wrk with one thread: a number of requests, for paths that take turns. wrk itself knows
-- durations only, so it is interrupted: by a shell whose parent it is, once it no longer waits
-- for that shell, for meanwhile it ignores the signal.
local count, paths, sent, done

function init(arguments)
  count, paths = tonumber(arguments[1]), tonumber(arguments[2])
  sent, done = 0, 0
end

function request()
  sent = sent + 1
  return wrk.format("GET", "/" .. (sent * 7919) % paths)
end

function response()
  done = done + 1
  if done == count then os.execute("(sleep 0.01; kill -INT $PPID) &") end
end
