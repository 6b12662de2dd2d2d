// The least program with all of engine/direct: load and invoke. Linked to be measured, not to be run.
#include "engine/engine.h"

int main() {
  using namespace edgeward;
  if (!graph_engine().load(ModelView{}, nullptr, 0)) return 1;
  return graph_engine().invoke() ? graph_engine().output().data[0] + graph_engine().input().data[0] : 2;
}
