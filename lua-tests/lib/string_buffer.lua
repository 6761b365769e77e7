-- string.buffer: the queue and the serialiser.
local B = require "string.buffer"
local b = B.new() print(b:put("hello", 1, 2.5, " ") == b, #b, tostring(b), b:tostring()) print(b:get(2), b:get(3, 1), b:get(), b:get() == "", #b)
print(b:put("abcdef"):skip(2):get(1, nil, 3)) print(b:putf("%d-%s|%5.2f", 1, "x", 3.14159):tostring(), b:reset() == b, #b) print(b:set("fresh"):tostring(), b:put("!"):tostring(), b:free() == b, #b)
local c = B.new(100) c:put("c") b:put(c, c):put("") print(b, c, b .. "x", "y" .. b, b .. c, 1 .. c) print(pcall(b.put, b, b)) print(pcall(function() b:put({}) end)) print(pcall(function() b:put("kept", nil) end)) print(tostring(b)) b:reset()
print(b:put(setmetatable({}, {__tostring = function() return "meta" end}), setmetatable({}, {__tostring = function() return 7 end})):tostring()) b:reset() print(b:putf("%s|%q", setmetatable({}, {__tostring = function() return "T" end}), "q"):tostring()) b:reset()
print(pcall(b.skip, b, -1)) print(pcall(b.get, b, -1)) print(pcall(b.get, b, "x")) print(pcall(b.put, 1, 2)) print(pcall(b.commit, b, 1e9)) print(pcall(B.new, "x")) print(pcall(B.new, -1)) print(pcall(B.new, 10, 5)) print(getmetatable(b), type(b))
for i = 1, 1000 do b:put(i, ",") end local n = 0 while #b > 0 do local s = b:get(7) n = n + #s end print(n) b:put("wrap") print(b:get())
local function hex(s) return (s:gsub(".", function(ch) return ("%02x"):format(ch:byte()) end)) end
for _, v in ipairs{true, false, 0, -0, 1, 1.5, 1e300, 1/0, "", "hello", ("x"):rep(191), ("x"):rep(192), ("x"):rep(300), ("y"):rep(9000):sub(1, 8200)} do local s = B.encode(v) print(#s > 60 and #s or hex(s), B.decode(s) == v) end print(hex(B.encode(nil)), B.decode(B.encode(nil)))
print(hex(B.encode({})), hex(B.encode({1, 2})), hex(B.encode({[0] = 1})), hex(B.encode({a = true})), hex(B.encode({"x", a = false})))
local t = {1, "two", {3, {four = 4}}, x = {y = {z = "deep"}}, [1.5] = "f", [true] = "t", [-1] = "neg"} local u = B.decode(B.encode(t)) print(u[1], u[2], u[3][1], u[3][2].four, u.x.y.z, u[1.5], u[true], u[-1])
for _, s in ipairs{"", "\255", "\0\0", "\8\8", "\6\1", "\7\1\2", "\9", "\9\1\0\0", "\9\2\6\1\0\0\0\1\6\1\0\0\0\1", "\11", "\12\5\2", "\26", "\30", "\15\0", "\14\0\8", "\33", "\12\255\255\255\255\255"} do print(("%q"):format(s), pcall(B.decode, s)) end
print(pcall(B.encode, print)) print(pcall(B.encode, {coroutine.create(print)})) print(pcall(B.encode)) t = {} t[1] = t print(pcall(B.encode, t)) local nest = {} local p = nest for i = 1, 98 do p[1] = {} p = p[1] end print(#B.encode(nest))
local mt = {__index = {kind = "object"}} local opts = {dict = {"name", "value"}, metatable = {mt}} local d = B.new(opts) d:encode(setmetatable({name = 1, value = 2, other = 3}, mt)) local s = d:tostring() print(hex(s):find("0f00") ~= nil, hex(s):sub(1, 4)) local o = d:decode() print(o.name, o.value, o.other, o.kind, getmetatable(o) == mt, #d)
print(pcall(B.decode, s)) d:reset():encode(1):encode("two"):encode({3}) print(d:decode(), d:decode(), d:decode()[1], pcall(d.decode, d)) print(pcall(B.new, {dict = {1, 2}})) print(pcall(B.new, {dict = {"a", "a"}})) print(B.decode(B.new():encode("from buffer"):tostring()))
