-- ARGV: gap_ms.  Records that an API process is running; a pause longer than gap_ms means that none was.
write_even_when_full()
note_beat('api', now_ms(), ARGV[1])
return 1
