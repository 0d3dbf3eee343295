"""The reactive core: Streams, their subscriptions and their sharing. Knows no HTTP, no Mistral."""
