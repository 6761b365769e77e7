-- A little of everything that short programs do: what is run here lies side by side in the binary (train.sh).
local t = {}
for i = 1, 300 do
  t[#t + 1] = ("%d:%5.2f %s %q"):format(i, i / 3, tostring(i), "x") .. i
end
table.sort(t)
table.sort(t, function(a, b) return a > b end)
local text = table.concat(t, ",")
for k, v in text:gmatch("(%d+):%s*(%S+)") do t[k] = tonumber(v) end
text = text:gsub("%d", { ["1"] = "one" }):gsub("^x", string.upper):rep(2):lower():reverse():sub(2, -2)
print(#text, text:find("one", 1, true), text:find("e.n"), text:byte(1, 3), select("#", text:match("()(.)")))
table.insert(t, 1, "first")
table.remove(t, 1)
table.remove(t)
for _ in pairs(t) do end
for _ in ipairs(t) do end
print(next(t), unpack({ 1, 2, 3 }), math.floor(2.5), math.max(1, 2), math.random(3) > 0, 7 % 3, 2 ^ 10)
local class = setmetatable({}, { __index = function(_, k) return k end, __call = function(_, a) return a end,
  __newindex = rawset, __add = function() return 1 end, __eq = function() return true end,
  __tostring = function() return "object" end, __concat = function() return "both" end })
class.field = class.other
print(class(1), class + 1, tostring(class), class .. "x", rawget(class, "field"), type(class), #t)
print(pcall(error, { code = 1 }), pcall(function() local none; return none.field end),
  xpcall(function() error("text") end, debug.traceback))
local co = coroutine.wrap(function(...) for i = 1, 3 do coroutine.yield(i, ...) end end)
print(co(1), co(), co(), coroutine.running())
local function vararg(...) local a, b = ... return select(2, ...), a, b, ... end
print(vararg(1, 2, 3))
local made = {}
for i = 1, 20000 do made[i % 50] = { i, name = i, function() return i end } end
print(loadstring("local a = ... goto done ::done:: return a * 2")(21))
collectgarbage()
print(os.time() > 0, os.clock() >= 0, os.getenv("NONE"), bit.bxor(bit.lshift(1, 4), 3), bit.tohex(255))
local file = io.open(arg[0])
for line in file:lines() do text = line end
file:seek("set")
print(#file:read("*a"), file:close())
io.write(string.format("%s %x %g %c\n", true, 255, 0.1, 65))
