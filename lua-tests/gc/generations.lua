--- -zeal
-- Old objects that are written to between cycles, in ways that pass by an assignment to a table; much is alive, so that
-- cycles look at young objects only.
local ballast = {}
for i = 1, 60000 do ballast[i] = { i, { i } } end
assert(collectgarbage("count") > 6 * 1024)
collectgarbage()

local function churn()
  for i = 1, 25000 do local t = { i, { tostring(i) } } end
end

-- A suspended coroutine: its locals and its environment are changed from outside.
local co = coroutine.create(function()
  local held = "first"
  coroutine.yield()
  return held.name, getfenv(0).name
end)
coroutine.resume(co)
churn()
for round = 1, 3 do
  debug.setlocal(co, 1, 1, { name = "local" .. round })
  debug.setfenv(co, { name = "environment" .. round })
  churn()
end
print(coroutine.resume(co))

-- Upvalues, open and closed; a new one in the place of another.
local get, set
do
  local up = { name = "up0" }
  function get() return up.name end
  function set(v) up = v end
end
churn()
for round = 1, 3 do
  set({ name = "up" .. round })
  churn()
end
print(get())
local other = (function() local o = { name = "joined" } return function() return o end end)()
churn()
debug.upvaluejoin(get, 1, other, 1)
churn()
print(get())

-- Environments and metatables.
local f = function() return name end
churn()
setfenv(f, { name = "environment of a function" })
churn()
print(f())
local object, proxy = {}, newproxy(true)
churn()
setmetatable(object, { __index = { name = "metatable" } })
getmetatable(proxy).__index = { name = "metatable of a userdata" }
churn()
print(object.name, proxy.name)

-- The parts of a table grow, shrink and move.
local t = {}
churn()
for i = 1, 3000 do
  t[i] = i
  if i % 300 == 0 then churn() end
end
for i = 1, 3000 do assert(t[i] == i) end
for i = 1, 3000 do t["k" .. i] = { i } end
churn()
for i = 1, 3000 do assert(t["k" .. i][1] == i) end

-- Weak tables forget the young that die; the old that die are forgotten by a whole collection.
local weak = setmetatable({}, { __mode = "v" })
churn()
weak.young = {}
weak.alive = ballast[1]
local old = {}
weak.old = old
churn()
churn()
collectgarbage()
old = nil
collectgarbage()
print(weak.young, weak.alive == ballast[1], weak.old)

-- What died old is collected without being asked for.
local gone = 0
local function dies()
  local p = newproxy(true)
  getmetatable(p).__gc = function() gone = gone + 1 end
  return p
end
local kept = dies()
churn()
churn()
kept = nil
for _ = 1, 1000 do
  if gone > 0 then break end
  churn()
end
print(gone)
for i = 1, #ballast do assert(ballast[i][2][1] == i) end
