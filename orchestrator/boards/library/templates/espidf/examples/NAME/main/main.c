@example@
void app_main(void) { run(); }
