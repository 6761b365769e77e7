-- A small JSON encoder: strings, numbers, booleans, arrays and objects with string keys, keys sorted.
local M = {}

local escapes = {['"'] = '\\"', ["\\"] = "\\\\", ["\b"] = "\\b", ["\f"] = "\\f", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t"}

local function quote(s)
  return '"' .. s:gsub('[%c"\\]', function(c) return escapes[c] or ("\\u%04x"):format(c:byte()) end) .. '"'
end

local encode

local function encode_table(t)
  local out = {}
  if #t > 0 or next(t) == nil then
    for i = 1, #t do out[i] = encode(t[i]) end
    return "[" .. table.concat(out, ",") .. "]"
  end
  local keys = {}
  for k in pairs(t) do keys[#keys + 1] = k end
  table.sort(keys)
  for i, k in ipairs(keys) do out[i] = quote(k) .. ":" .. encode(t[k]) end
  return "{" .. table.concat(out, ",") .. "}"
end

function encode(v)
  local ty = type(v)
  if ty == "string" then return quote(v) end
  if ty == "table" then return encode_table(v) end
  if ty == "number" or ty == "boolean" then return tostring(v) end
  if v == nil then return "null" end
  error("cannot encode a " .. ty)
end

M.encode = encode
return M
