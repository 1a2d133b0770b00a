"""Jobs on their worker: claiming them, running each kind, publishing their events, ending them."""
