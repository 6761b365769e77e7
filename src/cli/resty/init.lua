-- Output goes to the terminal: there is no client.
ngx.config.is_console = true

local stdout, null = io.stdout, ngx.null
local maxn, concat, tostring, type, select = table.maxn, table.concat, tostring, type, select

local function flat(list, n, out)
  for i = 1, n do
    local v = list[i]
    if v == null then
      out[#out + 1] = "null"
    elseif type(v) == "table" then
      flat(v, maxn(v), out)
    else
      out[#out + 1] = tostring(v)
    end
  end
  return out
end

local function write(...)
  return stdout:write(concat(flat({ ... }, select("#", ...), {})))
end

ngx.orig_print, ngx.orig_say, ngx.orig_exit = ngx.print, ngx.say, ngx.exit
ngx.print = write
ngx.say = function(...)
  local ok, err = write(...)
  if not ok then return ok, err end
  return stdout:write("\n")
end
ngx.flush = function() return stdout:flush() end
ngx.eof = function() return true end
ngx.exit = os.exit
print = ngx.say
