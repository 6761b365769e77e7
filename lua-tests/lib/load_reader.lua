-- load asks its reader for no more than it needs to know that the code is wrong.
local function reader(text, size)
  local calls, at = 0, 1
  return function()
    calls = calls + 1
    local piece = text:sub(at, at + size - 1)
    at = at + size
    return piece
  end, function() return calls end
end

local read, calls = reader("*a = 123", 1)
local f, m = load(read)
print(f, type(m), calls())
local read, calls = reader("x = = 1 " .. ("y = 1 "):rep(1000), 1)
print(load(read, "=t"))
print(calls() < 100)
local read, calls = reader("local s = [[never closed" .. ("z"):rep(100), 7)
print(load(read, "=t"))
local read, calls = reader("return 1, 'two', 3.5", 1)
print(load(read, "=t")())
local read, calls = reader(string.dump(loadstring("return ...")), 1)
print(load(read, "=t", "b")(7, 8))
print(load(function() return nil end)())
-- (protected, so that no message handler of the caller sees the errors)
print(pcall(load, function() return {} end, "=t"))
print(pcall(function() return load(function() return {} end, "=t") end))
print(pcall(load, function() error("reader fails", 0) end))
local n = 0
print(pcall(load, function() n = n + 1 if n == 2 then error("later", 0) end return "x" end, "=t"))

-- a buffer is as good as a string
local b = require "string.buffer"
print(load(b.new():put("return 1 + 1"))(), select(2, load(b.new():put("x ="))))
print((select(2, load(b.new():put("x ="), "=n"))))
