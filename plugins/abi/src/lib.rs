//! The C ABI of resource-provider plugins, from both sides: `export_provider!` for a plugin, the loader for its host.
