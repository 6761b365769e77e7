-- string.format, integers and text.
local function f(...) print(("%q"):format((string.format(...)))) end
for _, spec in ipairs{"%d", "%5d", "%-5d|", "%05d", "%+d", "% d", "%.3d", "%8.3d", "%-8.3d|", "%+05d", "%i", "%u", "%x", "%X", "%#x", "%o", "%#o", "%04x", "%#08x", "%.0d"} do
  io.write(spec, " ")
  for _, n in ipairs{0, 1, 42, 255, 65535, -1, -42, 2^31, -2^31, 2^53, 3.99, -3.99} do
    if n >= 0 or not spec:find("[uxXo]") then io.write("[", spec:format(n), "]") end
  end
  print()
end
f("%x", -1) f("%o", -1) f("%u", -1) f("%X", 2^63) f("%d", 2^63) f("%d", -2^63) f("%d", "10") f("%d", "0x10") f("%x", 2^64 - 2048)
f("%s", "x") f("%5s|%-5s|", "ab", "cd") f("%.2s|%.0s|%.10s", "abc", "abc", "abc") f("%10.3s|", "abcdef") f("%05s", "x")
f("%s %s %s %s", nil, true, 12, 1.5) f("%c%c%c", 76, 117, 97) f("%3c|%-3c|", 65, 66) f("%%") f("100%% %d%%", 5)
f("%q", "plain") f("%q", 'quo"te \\ back') f("%q", "nl\nret\rtab\tnul\0end") f("%q", "\0001\1272\200") f("%q", 12) f("%q", 1/0) f("%q", 1/3)
f("%-10q|", "x") f("%s", setmetatable({}, {__tostring = function() return "custom" end}))
f("%8s|", setmetatable({}, {__tostring = function() return "meta" end}))
f("%s%s", setmetatable({}, {__tostring = function() return "a" end}), setmetatable({}, {__tostring = function() return "b" end}))
f("%s", setmetatable({}, {__tostring = function() return 12 end}))
f("%p", 1) f("%p", "x" == nil) print((("%p"):format({}):gsub("%x+$", "ADDR")))
f("") f("no specs") f("a\0b%sc", "\0")
f("%s", ("x"):rep(50)) print(#("%99d"):format(1), #("%.99d"):format(1), #("%s"):format(("y"):rep(100000)))
