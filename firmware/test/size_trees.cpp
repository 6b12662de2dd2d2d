// The least program with all of engine/trees: load and invoke. Linked to be measured, not to be run.
#include "engine/trees/format.h"

int main() {
  using namespace edgeward;
  if (!trees_engine().load(ModelView{}, nullptr, 0)) return 1;
  return trees_engine().invoke() ? trees_engine().output().data[0] + trees_engine().input().data[0] : 2;
}
