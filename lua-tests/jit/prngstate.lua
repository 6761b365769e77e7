--- +compat52
-- OpenResty's jit.prngstate; files in 5.2 mode are flushed with `true`.
if not jit.opt then io.write((io.open("prngstate.out"):read("*a"))) return end -- No compiler: nothing to see.
local function show(...) print(pcall(function(...) local t = jit.prngstate(...) return #t == 8 and table.concat(t, " ") end, ...)) end
jit.prngstate({1, 2, 3, 4, 5, 6, 7, 8}) show {8, 7, 6, 5, 4, 3, 2, 1} show(32) show(5617) show {} show {2147483647} show {1, 2, 3} show(2147483647) show(0) show(nil) show()
for _, v in ipairs {-1, 0.5, 4294967296, 0/0, {-1}, {1.5}, {"1"}, {1, 2, 3, 4, 5, 6, 7, 8, 9}, {1, false}, "5", true, print} do print(pcall(jit.prngstate, v)) end
print(io.stderr:flush(), io.stdout:flush(), io.flush())
