// Chooses the instruction set; a new one is a file beside attend_portable.cpp and a line here.
#include "attend.h"

namespace pagedbench {

const InstructionSet& instruction_set() { return portable; }

}  // namespace pagedbench
