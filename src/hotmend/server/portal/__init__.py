"""The portal: pages that the server renders, which work without script."""
