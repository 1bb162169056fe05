//! The standalone provider as a loadable plugin: `libweir_provider_standalone.so`.

weir_plugin::export_provider!(weir_standalone::Standalone);
