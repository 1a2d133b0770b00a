-- Each script runs in Redis after prelude.lua, so it sees the names that the prelude defines.
local prelude = {}
for line in io.lines("common/redis/lua/prelude.lua") do
  prelude[#prelude + 1] = line:match("^local function ([%w_]+)") or line:match("^local ([%w_]+) =")
end

std = "lua51"
read_globals = {"redis", "KEYS", "ARGV", "cjson"}
max_line_length = 125
max_comment_line_length = 130
files["common/redis/lua"] = {read_globals = prelude}
files["common/redis/lua/prelude.lua"] = {ignore = {"211"}} -- not every script needs everything
