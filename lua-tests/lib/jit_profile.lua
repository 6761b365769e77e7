-- jit.profile and jit.p: what they say of a stack, and that samples come and change nothing.
local profile = require("jit.profile")

local function dump(format, depth)
  return (profile.dumpstack(format, depth))
end
function outer()
  for _, format in ipairs { "fZ;", "FZ;", "lZ < ", "pFZ|", "x" } do
    for _, depth in ipairs { 1, 2, 3, -2, 0 } do
      print(format, depth, (dump(format, depth):gsub("%[builtin#%d+%]", "[builtin]")))
    end
  end
end
outer()

local co = coroutine.create(function()
  local function inner() coroutine.yield() end
  inner()
end)
coroutine.resume(co)
print(profile.dumpstack(co, "F;", 10))
print(loadstring("local p = require('jit.profile') return (p.dumpstack('F;', 2))", "x y")())
print(loadstring("local p = require('jit.profile') return (p.dumpstack('l;', 2):gsub('%d+%]', ']'))", "=x/y.lua")())
print(pcall(profile.dumpstack), pcall(profile.dumpstack, "f"))
print(pcall(profile.start), pcall(profile.start, "i1", 1))

-- Samples: every state is one of five, the coroutine is the one that runs, and none come after the end.
local n, odd, me, other = 0, 0, coroutine.running(), 0
local function sampled(thread, samples, state)
  n = n + samples
  if not ("NICGJ"):find(state, 1, true) or samples < 1 then odd = odd + 1 end
  if coroutine.status(thread) == "dead" then other = other + 1 end
end
local function busy(more)
  local least, t, s = n + more, os.clock(), 0
  while n < least do
    for i = 1, 1000 do s = s + i % 7 end
    s = s + #tostring({}) * 0
    if os.clock() - t > 60 then error("no samples") end
  end
  return s > 0
end
profile.start("i1", sampled)
print(busy(5))
print(coroutine.wrap(function() return busy(10) end)())
print(select("#", unpack({}, 1, 200)), pcall(error, "caught", 0))
profile.stop()
local was = n
for i = 1, 1e4 do local _ = i .. "" end
print(n == was, odd, other)
profile.stop()

-- A report.
local p = require("jit.p")
local name = os.tmpname()
local function hot()
  local t = os.clock()
  local s = 0
  while os.clock() - t < 0.2 do
    for i = 1, 1000 do s = s + i end
  end
end
p.start("Fi1", name)
hot()
p.stop()
local f = io.open(name)
local text = f:read("*a")
f:close()
os.remove(name)
print(text:match("%d+%%  jit_profile.lua:hot\n") ~= nil or text)
p.start("Gi1000000", name)
p.stop()
f = io.open(name)
print(f:read("*a") == "")
f:close()
os.remove(name)
