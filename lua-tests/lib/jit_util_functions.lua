-- jit.util about functions, number by number.
local u = require "jit.util"
local up1, up2 = 1, 2
local function f1(a, b, ...) local c = a + up1 local t = {x = 1, 2, "s"} for i = 1, 10 do c = c + i * 1.5 end return function() return up2, c end, t, ... end
local function f2() end
local function f3(x) if x then return -5 else return "a" .. x .. 1e10 end end
local f4 = loadstring("return 1", "=str") local f5 = loadstring("local a <const> = 1", "@/a/b/c.lua") or loadstring("local a = 1\n\nreturn a", "@/a/b/c.lua") local f6 = loadstring(("x = 1 "):rep(20))
local function show(t) if type(t) ~= "table" then return tostring(t) end local k = {} for n in pairs(t) do k[#k + 1] = n end table.sort(k, function(a, b) return tostring(a) < tostring(b) end) for i, n in ipairs(k) do k[i] = n .. "=" .. (tostring(t[n]):gsub("0x%x+", "A")) end return table.concat(k, " ") end
for i, f in ipairs{f1, f2, f3, f4, f5, f6} do
  print(i, show(u.funcinfo(f))) for pc = -1, 6 do print(pc, show(u.funcinfo(f, pc))) end
  for pc = -1, 40 do local a, b = u.funcbc(f, pc) if a then print(pc, bit.rshift(a, 8), b) elseif select("#", u.funcbc(f, pc)) > 0 then print("?", a) end end
  for k = -12, 8 do local n = select("#", u.funck(f, k)) local v = u.funck(f, k) if n > 0 then print(k, type(v), type(v) == "table" and show(v) or (tostring(v):gsub("0x%x+", "A"))) end end
  for k = -1, 3 do print(k, u.funcuvname(f, k)) end
end
print(show(u.funcinfo(print)):gsub("%d+", "N")) print(show(u.funcinfo(string.gmatch("a", "a"))):gsub("%d+", "N")) print(show(u.funcinfo(coroutine.wrap(print))):gsub("%d+", "N"))
local s = loadstring(string.dump(f1, true)) print(show(u.funcinfo(s))) print(u.funcuvname(s, 0)) print(show(u.funcinfo(s, 3)))
