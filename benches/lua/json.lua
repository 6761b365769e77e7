-- question: a JSON document written and read back by Lua code
-- expect: 4000 2228000 true
local escapes = {['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\t"] = "\\t"}
local function quote(s) return '"' .. s:gsub('[%c"\\]', escapes) .. '"' end
local function write(v, out)
  local kind = type(v)
  if kind == "table" then
    if #v > 0 then
      out[#out + 1] = "["
      for i = 1, #v do
        if i > 1 then out[#out + 1] = "," end
        write(v[i], out)
      end
      out[#out + 1] = "]"
    else
      local keys = {}
      for k in pairs(v) do keys[#keys + 1] = k end
      table.sort(keys)
      out[#out + 1] = "{"
      for i = 1, #keys do
        out[#out + 1] = (i > 1 and "," or "") .. quote(keys[i]) .. ":"
        write(v[keys[i]], out)
      end
      out[#out + 1] = "}"
    end
  elseif kind == "string" then
    out[#out + 1] = quote(v)
  else
    out[#out + 1] = tostring(v)
  end
  return out
end
local names = {n = "\n", t = "\t"}
local read
local function spaces(s, i) return s:find("%S", i) end
local function text(s, i)
  local parts, from = nil, i + 1
  while true do
    local at = s:find('["\\]', from)
    if s:byte(at) == 34 then
      local last = s:sub(from, at - 1)
      return parts and parts .. last or last, at + 1
    end
    local c = s:sub(at + 1, at + 1)
    parts = (parts or "") .. s:sub(from, at - 1) .. (names[c] or c)
    from = at + 2
  end
end
local words = {t = true, f = false}
function read(s, i)
  i = spaces(s, i)
  local c = s:sub(i, i)
  if c == "{" then
    local t, key = {}
    i = spaces(s, i + 1)
    while s:sub(i, i) ~= "}" do
      key, i = text(s, spaces(s, i))
      t[key], i = read(s, spaces(s, i) + 1)
      i = spaces(s, i)
      if s:sub(i, i) == "," then i = i + 1 end
    end
    return t, i + 1
  elseif c == "[" then
    local t = {}
    i = i + 1
    while s:sub(i, i) ~= "]" do
      t[#t + 1], i = read(s, i)
      i = spaces(s, i)
      if s:sub(i, i) == "," then i = i + 1 end
    end
    return t, i + 1
  elseif c == '"' then
    return text(s, i)
  end
  local word = s:match("^[%w%.%-+]+", i)
  if words[c] ~= nil then return words[c], i + #word end
  return tonumber(word), i + #word
end
local doc = {id = 17, ok = true, name = 'a "quoted" name', tags = {"red", "green\tblue", "line\nbreak"},
  rows = {{x = 1.5, y = -2}, {x = 3, y = 4e10}, {x = 5, y = 6, sub = {deep = {deeper = {1, 2, 3}}}}},
  long = ("lorem ipsum dolor "):rep(20)}
local bytes, same = 0, true
local first = table.concat(write(doc, {}))
for _ = 1, 4000 do
  local s = table.concat(write(doc, {}))
  bytes = bytes + #s
  same = same and table.concat(write(read(s, 1), {})) == first
end
print(4000, bytes, same)
