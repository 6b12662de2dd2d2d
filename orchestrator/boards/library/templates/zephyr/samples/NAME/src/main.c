@example@
int main(void) { return run(); }
