--- -zeal
-- String literals: escapes, line ends, long brackets, what is unfinished.
local function hex(s) return (s:gsub(".", function(c) return ("%02x"):format(c:byte()) end)) end
local function try(s) local f, e = load("return " .. s, "=c") if not f then print((("%q"):format(s):gsub("\n", "n"):gsub("\r", "r")), e) return end local r = f() print((("%q"):format(s):gsub("\n", "n"):gsub("\r", "r")), type(r) == "string" and hex(r) or r) end
for c = 0, 255 do local ch = string.char(c) if c ~= 10 and c ~= 13 then try("'\\" .. ch .. "'") end end
try[['\a\b\f\n\r\t\v\\\"\'']] try("'a\\\nb'") try("'a\\\r\nb'") try("'a\\\n\rb'") try("'a\\\rb'") try("'a\\\n\nb'") try("'a\nb'") try("'a\rb'") try('"a\nb"')
try[['\0']] try[['\00']] try[['\000']] try[['\0000']] try[['\1\12\123\255']] try[['\256']] try[['\300']] try[['\999']] try[['\2555']] try[['\1a']] try[['\09']]
try[['\x']] try[['\x1']] try[['\x1g']] try[['\x00\xff\xFF\xaB']] try[['\x123']] try[['\X12']] try[['\x-1']]
try[['\z  a']] try("'\\z\n\n  \t\v\f\r a'") try("'a\\z'") try("'a\\z\n'") try("'\\z") try("'a\\z \\z b'") try("'a\\z\\n'")
try[['\u{0}\u{7f}\u{80}\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}']] try[['\u{110000}']] try[['\u{}']] try[['\u{g}']] try[['\u41']] try[['\u{41']] try[['\u{41 }']] try[['\u{0000000041}']] try[['\u{00000000000000041}']] try[['\u{d800}']] try[['\u{dfff}']] try[['\u{dbff}\u{dc00}']] try[['\u{fffffffff}']] try[['\U{41}']] try[['\u']] try[['\u{']] try[['\u{e000}\u{d7ff}']]
try("'abc") try('"abc') try("'abc\\") try("'abc\\'") try("'abc\n'") try("'") try('"') try("'a\0b'") try("\"'\"") try("'\"'") try("'\\'") try("'abc\"")
try("[[]]") try("[[\n]]") try("[[\n\n]]") try("[[\r\na]]") try("[[\n\ra]]") try("[[\ra]]") try("[[a\r\nb\n\rc\rd\ne]]") try("[[\r\r]]") try("[=[a]]b]=]") try("[==[a]=]b]==]") try("[[a\\nb]]") try("[[a]b]]") try("[=[]]=]") try("[=[]=]=]") try("[[") try("[[a") try("[[a]") try("[=[a]]") try("[=a") try("[=") try("[==") try("[=\n[") try("[[\n\n") try("[[ [[ ]]") try("[[ [[ ]] ]]") try("[=[[=[ ]=]") try("[[\0]]") try("[[a\0b]]") try("[" .. ("="):rep(300) .. "[x]" .. ("="):rep(300) .. "]") try("a[[[x]]]") 
print(("x"):rep(3), #load("return '" .. ("y"):rep(100000) .. "'")(), #load("return [[" .. ("y\n"):rep(50000) .. "]]")())
print(load("x = 'unfinished " .. ("z"):rep(200), "=c")) print(load("x = '\\q" .. ("z"):rep(200), "=c")) print(load("x = '" .. ("z"):rep(100) .. "\\q'", "=c"))
print(load("x = [[a\nb\nc", "=c")) print(load("\n\nx = 'a\\\n\n'", "=c")) print(load("x = 'a\\\nb' y", "=c")) print(load("x = 'a\\z\n\n\nb' y", "=c")) print(load("x = [[\n\n\n]] y", "=c")) print(load("x = [[\n\n\n]] = 'q\\\n'", "=c"))
