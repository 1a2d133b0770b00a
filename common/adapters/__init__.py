"""Everything that a request can name as its model: base models, adapters with their versions, and aliases."""
