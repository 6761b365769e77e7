-- Message handlers that meet errors themselves: an error caught inside one ends its being special.
local function inner(e) return "inner " .. tostring(e) end
print(xpcall(error, function(e)
  print(xpcall(error, inner, "z"))
  return "end " .. e
end, "a"))
print(xpcall(error, function(e)
  print(xpcall(function() local x = nil + 1 end, inner))
  print(xpcall(function() error("z", 0) end, inner))
  return "end " .. e
end, "a"))
print(xpcall(error, function(e)
  print(pcall(error, 1))
  print(xpcall(error, inner, "z"))
  return "end " .. e
end, "a"))
-- An error of the handler after that calls it again.
local n = 0
print(xpcall(error, function(e)
  n = n + 1
  if n < 5 then
    pcall(error, 1)
    error("again " .. n, 0)
  end
  return "done " .. e
end, "a"))
n = 0
print(xpcall(error, function(e) n = n + 1 error("again " .. n) end, "a"), n)
-- Another coroutine is not inside the handler.
print(xpcall(error, function(e)
  print(coroutine.wrap(function() return xpcall(error, inner, "q") end)())
  return "end " .. e
end, "a"))
print(xpcall(error, function(e) return select(2, pcall(pcall, error, e)) end, "a"))
-- Nested, each with its own.
print(xpcall(function() return xpcall(error, function(e) error("h", 0) end, "q") end, function(e) return "outer", e end))
print(xpcall(function() local ok, e = xpcall(error, inner, "q") error(e, 0) end, function(e) return "outer " .. e end))
local function deep() return 1 + deep() end
print((select(2, pcall(deep)):match("stack overflow$")))
