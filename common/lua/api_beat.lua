-- ARGV: gap_ms.  A process of the API is there; without such a beat for gap_ms, none was.
write_even_when_full()
note_beat('api', now_ms(), ARGV[1])
return 1
