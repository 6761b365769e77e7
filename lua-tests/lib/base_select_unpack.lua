-- select, ipairs, pairs, next, rawget and friends, type.
print(select("#"), select("#", nil), select("#", nil, nil), select(1, "a", "b"), select(2, "a", "b"), select(3, "a", "b"), select(-1, "a", "b"), select(-2, "a", "b"))
print(select("2", "a", "b"), (select(1, "x", "y")), select(2.9, 1, 2, 3))
local t = {10, 20, nil, 40, x = 1}
for i, v in ipairs(t) do io.write(i, "=", v, " ") end print()
local n = 0 for k, v in pairs({1, 2, 3, a = 1, b = 2}) do n = n + 1 end print(n)
print(next({}), next({5}), next({a = 1}), next({1, 2}, 1), next({1, 2}, 2))
print(type(next), type(nil), type(1), type("x"), type({}), type(print), type(coroutine.create(print)), type(true), type(io.stdout))
local mt = setmetatable({}, {__index = function() return "idx" end, __newindex = function() error("no") end, __len = function() return 99 end, __eq = function() return true end})
print(mt.x, rawget(mt, "x"), rawset(mt, "x", 5) == mt, mt.x, #mt, rawequal(mt, mt), rawequal(mt, {}), rawequal("a" .. "b", "ab"), rawequal(1, 1), rawequal(0, -0), rawequal(0/0, 0/0))
local f, s, c = ipairs({}) print(type(f), type(s), c) local f2, s2, c2 = pairs({}) print(f2 == next, type(s2), c2)
-- Assigning to existing fields while iterating is fine, so is clearing them.
local tt = {} for i = 1, 100 do tt["k" .. i] = i end
local sum = 0 for k, v in pairs(tt) do sum = sum + v tt[k] = nil end print(sum, next(tt))
print(pcall(next, {}, "nokey")) print(tostring(nil), tostring(false), tostring(12), tostring("s"))
print(assert(1, 2, 3)) print(select("#", assert(true, nil, nil)))
print(rawget({[1] = "one"}, 1), rawget(setmetatable({}, {__index = {a = 1}}), "a"))
print(unpack({1, 2, 3}, 2), _VERSION, _G._G == _G)
print(gcinfo() > 0, type(collectgarbage("count")), collectgarbage("count") > 0, collectgarbage(), collectgarbage("collect"), type(collectgarbage("step")), collectgarbage("isrunning"))
