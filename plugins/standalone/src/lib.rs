//! The standalone provider as a loadable plugin: `libweir_provider_standalone.so`.
