// Cooperative matrices of 8 by 8: f32 operands, f32 sums.

const TILE: u32 = 8u;
alias Operand = f32;
alias MatA = coop_mat8x8<f32, A>;
alias MatB = coop_mat8x8<f32, B>;
alias MatC = coop_mat8x8<f32, C>;
