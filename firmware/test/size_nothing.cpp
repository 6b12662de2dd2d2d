// The least program: what size_direct.cpp is compared with.
int main() { return 0; }
