-- Collections in the middle of resumable library functions.
local t = {} for i = 1, 100 do t[i] = {v = (i * 37) % 101} end table.sort(t, function(a, b) if a.v % 10 == 0 then collectgarbage() end return a.v < b.v end) local ok = true for i = 2, 100 do ok = ok and t[i - 1].v <= t[i].v end print(ok)
print((("abc"):rep(10):gsub("%w", function(c) collectgarbage() return ({a = "1" .. c, b = "2", c = "3"})[c] end)))
print((("k1 k2"):gsub("%w+", setmetatable({}, {__index = function(_, k) collectgarbage() return k .. "!" end}))))
local n = 0 print(load(function() collectgarbage() n = n + 1 return ({"return ", "1 ", "+ 41"})[n] end)())
print(string.format("%s-%s", setmetatable({}, {__tostring = function() collectgarbage() return "A" end}), setmetatable({}, {__tostring = function() collectgarbage() return "B" .. "b" end})))
for w in ("a b c"):gmatch("%a") do collectgarbage() io.write(w, " ") end print()
table.foreach({x = {}}, function(k, v) collectgarbage() print(k, type(v)) end)
local w = coroutine.wrap(function() table.sort({3, 1, 2}, function(a, b) collectgarbage() return a < b end) return "sorted" end) print(w())
package.preload.g = function() collectgarbage() return {"module"} end print(require("g")[1])
print(select(2, pcall(function() collectgarbage() error({"err"}) end))[1])
-- A coroutine dropped in the middle of a sort or a gsub leaks nothing and harms nobody.
for i = 1, 50 do
  local co = coroutine.create(function() pcall(function() local x = {2, 1, 3} for k = 1, 3 do x[k] = x[k] * i end error("left") end) coroutine.yield(i) end)
  coroutine.resume(co)
end
collectgarbage() print("dropped")
