-- wrk's part: requests as they are in a file, each after its length and a line break; in turn, or each once.
local requests, position, answered, once = {}, 0, 0, false
function init(args)
  once = args[2] == "once"
  local file = io.open(args[1], "rb")
  local text, at = file:read("*a"), 1
  file:close()
  while at <= #text do
    local ends = text:find("\n", at, true)
    local length = tonumber(text:sub(at, ends - 1))
    table.insert(requests, text:sub(ends + 1, ends + length))
    at = ends + length + 1
  end
  if once then
    function response() answered = answered + 1; if answered >= #requests then wrk.thread:stop() end end
  end
end
function request()
  position = position + 1
  if position > #requests then
    -- Connections that come before all answers are there: this answers anything, and is refused by nobody.
    if once then return "GET /health HTTP/1.1\r\nHost: bench\r\n\r\n" end
    position = 1
  end
  return requests[position]
end
function done(summary, latency)
  local errors = summary.errors
  io.write(string.format("RESULT %d %d %d %d %d\n", summary.requests, summary.duration,
    errors.status, errors.read + errors.write + errors.timeout + errors.connect, latency:percentile(99)))
end
