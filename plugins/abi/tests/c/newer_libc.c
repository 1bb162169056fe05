int of_the_future(void) { return 0; }
