-- A coroutine yields inside every place where a library function or the machine calls back, and is resumed from outside.
local yield = coroutine.yield

local function drive(name, body)
  local co = coroutine.create(body)
  local log, args = {}, {}
  while true do
    local r = {coroutine.resume(co, unpack(args))}
    if not r[1] then log[#log + 1] = "error " .. tostring(r[2]) break end
    if coroutine.status(co) == "dead" then
      for i = 2, #r do log[#log + 1] = "=" .. tostring(r[i]) end
      break
    end
    log[#log + 1] = tostring(r[2])
    args = {"r" .. #log}
  end
  print(name, table.concat(log, " "))
end

drive("sort comparator", function()
  local t, n = {3, 1, 2}, 0
  table.sort(t, function(a, b) n = n + 1 if n <= 3 then yield("cmp") end return a < b end)
  return table.concat(t, ",")
end)

drive("gsub callback", function()
  return (("abc"):gsub("%w", function(c) return yield(c) end))
end)

drive("gsub __index", function()
  return (("xy"):gsub("%w", setmetatable({}, {__index = function(_, k) return yield(k) .. k end})))
end)

drive("__tostring", function()
  local o = setmetatable({}, {__tostring = function() return "<" .. yield("ts") .. ">" end})
  return tostring(o)
end)

drive("__index", function()
  local o = setmetatable({}, {__index = function(_, k) return yield(k) end})
  return o.field, o[7]
end)

drive("__newindex", function()
  local got
  local o = setmetatable({}, {__newindex = function(_, k, v) got = k .. v .. yield("set") end})
  o.k = "v"
  return got
end)

drive("__call", function()
  local o = setmetatable({}, {__call = function(_, a) return a, yield("call") end})
  return o(1)
end)

drive("arithmetic", function()
  local mt = {__add = function(_, b) return yield("add") .. tostring(b) end, __unm = function() return yield("unm") end,
    __concat = function() return yield("concat") end, __lt = function() return yield("lt") end,
    __le = function() return yield("le") end, __eq = function() return yield("eq") end}
  local a, b = setmetatable({}, mt), setmetatable({}, mt)
  return a + 1, -a, a .. "x", "x" .. "y" .. a, a < b, a <= b, a == b
end)

drive("iterator", function()
  local out = {}
  for v in function(_, last) return yield("it" .. tostring(last)) end do
    out[#out + 1] = v
    if #out == 2 then break end
  end
  return table.concat(out, "+")
end)

drive("pcall", function()
  return pcall(function() local v = yield("in") error("oops " .. v, 0) end)
end)

drive("xpcall", function()
  return xpcall(function(a) yield(a) error("bad", 0) end, function(m) return m .. "!" .. yield("handler") end, "arg")
end)

drive("nested pcall and wrap", function()
  local inner = coroutine.wrap(function() return pcall(function() yield("deep") return "done" end) end)
  local first = inner()
  yield("outer " .. first)
  return inner()
end)

package.preload.yielding = function(name) return {name = name, value = yield("loading")} end
drive("require", function()
  local m = require "yielding"
  return m.name, m.value, require("yielding") == m
end)

drive("load reader", function()
  local parts = {"return ", "1 + ", "41"}
  local i = 0
  local f = assert(load(function() i = i + 1 yield("part") return parts[i] end))
  return f()
end)

drive("foreach", function()
  return table.foreach({a = 1}, function(k) return yield(k) end)
end)

drive("tail call", function()
  local function f(n) if n == 0 then return yield("bottom") end return f(n - 1) end
  return f(1000)
end)

drive("print", function()
  local o = setmetatable({}, {__tostring = function() return yield("p") end})
  print("  printed", o, o)
end)

drive("table.concat of yielded", function()
  local t = {}
  for i = 1, 3 do t[i] = yield(i) end
  return table.concat(t, "/")
end)
