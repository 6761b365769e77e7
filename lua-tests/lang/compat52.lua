--- +compat52
-- What 5.2 mode changes.
for i = 1, 3 do if i == 2 then break print("dead") end io.write(i, " ") end print() ;; local x = 1;; print(x)
local mt = {__lt = function() return true end, __le = function() return false end, __len = function() return 42 end, __eq = function() return true end}
local a = setmetatable({}, mt) print(a < 1, 1 < a, a <= 1, "x" < a, #a, rawlen(a), rawlen({1, 2}), rawlen("abc"))
local p = setmetatable({}, {__pairs = function(t) return function(_, k) if not k then return 1, "one" end end, t, nil end, __ipairs = function(t) return function(_, i) if i < 2 then return i + 1, "i" .. i end end, t, 0 end})
for k, v in pairs(p) do print(k, v) end for i, v in ipairs(p) do print(i, v) end
local co, main = coroutine.running() print(type(co), main) coroutine.wrap(function() print(select(2, coroutine.running())) end)()
print(("abc"):find("", 10), ("abc"):find("", 4)) print(io.write("") == io.stdout, io.stdout:write("") == io.stdout)
print(os.execute("exit 3")) print(os.execute("true")) print(os.execute("kill -9 $$")) local pp = io.popen("exit 5") print(pp:close())
local t = table.pack(1, nil, 3) print(t.n, t[1], t[3], table.unpack({1, 2, 3}, 2)) print(package.searchers == package.loaders, _VERSION)
print(debug.setmetatable(10, nil), type(debug.getuservalue), type(debug.setuservalue)) local u = newproxy() print(type(debug.getuservalue(u)), debug.setuservalue(u, {1}) == u, debug.getuservalue(u)[1])
print(type(module("m52", package.seeall))) print(getmetatable(setmetatable({}, {__unm = function(a, b) return a == b end})) ~= nil, -setmetatable({}, {__unm = function(a, b) return rawequal(a, b) end}))
print(pcall(load, "goto = 1")) print(load("local goto = 1")) print(#setmetatable({}, {__len = function() return "len" end}))
print(load("return 1", "n", "t", nil) and pcall(load("return x", "n", "t", {x = 5}))) print(string.rep("a", 3, "-"), table.concat({1, 2}, ","), math.log(8, 2))
local ups, sum = {}, {} for i = 1, 120 do ups[i] = "u" .. i sum[i] = i end
local many = load("local " .. table.concat(ups, ",", 1, 100) .. " = " .. table.concat(sum, ",", 1, 100) .. " local " .. table.concat(ups, ",", 101) .. " = " .. table.concat(sum, ",", 101) .. " return function() return " .. table.concat(ups, "+") .. " end")() collectgarbage() print(many())
print(load("local " .. table.concat(ups, ",") .. ", u121 return function() return u121 + " .. table.concat(ups, "+") .. " end", "=c"))
