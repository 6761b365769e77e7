-- Who may call the API: from Redis when GATEWAY_REDIS is set, else from the table below.
local M = {}

-- key -> user name and requests allowed per second
local embedded = {
  demo = {user = "demo", rate = 5},
  load = {user = "load", rate = 1e9},
}

local address = os.getenv("GATEWAY_REDIS")
local host, port
if address and address ~= "" then
  host, port = address:match("^(.-):(%d+)$")
end

function M.source()
  if host then return "redis at " .. host .. ":" .. port end
  return "embedded table (GATEWAY_REDIS is not set)"
end

local function from_redis(key)
  local redis = require "redis"
  local red = redis:new()
  red:set_timeout(500)
  local ok, err = red:connect(host, tonumber(port))
  if not ok then return nil, "connect: " .. err end
  local row
  row, err = red:hmget("key:" .. key, "user", "rate")
  if not row then return nil, "hmget: " .. err end
  red:set_keepalive(10000, 16)
  if row[1] == ngx.null then return false end
  return {user = row[1], rate = tonumber(row[2]) or 1}
end

-- The entry of a key; false when there is none; nil and a reason when the store did not answer.
function M.lookup(key)
  if host then return from_redis(key) end
  return embedded[key] or false
end

return M
