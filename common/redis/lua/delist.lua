-- ARGV: the name of a listing, then ids. Removes what has expired from the listing.
for i = 2, #ARGV do delist(key_of(ARGV[1]), ARGV[i]) end
