// Cooperative matrices of 8 by 8: f16 operands, f32 sums.

const TILE: u32 = 8u;
alias Operand = f16;
alias MatA = coop_mat8x8<f16, A>;
alias MatB = coop_mat8x8<f16, B>;
alias MatC = coop_mat8x8<f32, C>;
