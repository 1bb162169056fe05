//! Log files of Weir's processes: where they are, how they rotate, how they are read back.
