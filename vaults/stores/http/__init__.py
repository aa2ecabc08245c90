"""HTTP: a vault on another machine, which `vaults serve` has there. This room only leads to the others."""
