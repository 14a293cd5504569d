"""xdropd-fetch: fetches the lists that the blocklist names by URL. Knows no filter, and no list beyond its look."""
